"""Strata of images by native size."""

from medstudy import statistics as st


def test_strata_split_images_by_native_pixels(scores):
    strata = st.native_strata(scores)
    images = scores.assign(stratum=strata).groupby("image_id")["stratum"].first().value_counts()
    assert len(images) == 3 and images.min() >= 0.8 * images.max()
    fixed = st.native_strata(scores, edges=[224**2, 318**2])
    assert list(fixed.cat.categories) == ["up to 224² px", "224² to 318² px", "above 318² px"]
    small = scores["height"] * scores["width"] <= 224**2
    assert (fixed[small] == "up to 224² px").all() and not (fixed[~small] == "up to 224² px").any()
