"""Examples without pixels, and options, for the tests of costs."""

from __future__ import annotations

from dataclasses import replace

from medstudy.resolution.policies import Add, Curriculum, DownUp, EqualFlops, Fixed, Mixed, Native
from medstudy.resolution.sizes import Size

LARGE = Native(max_pixels=10**6)
REGIMES = {
    "native": LARGE,
    "fixed": Fixed(side=84),
    "mixed": Mixed(choices=(Fixed(side=84), Native(max_pixels=20000))),
    "add": Add(native=LARGE, variants=(Fixed(side=56),)),
    "curriculum": Curriculum(stages=(Fixed(side=56), LARGE)),
    "down_up": DownUp(side=56, native=LARGE),
    "equal_flops": EqualFlops(low=Fixed(side=56), native=LARGE),
}


def sized(examples):
    """The examples without their pixels."""

    def size(image):
        return Size(image.height, image.width)

    def shot(one):
        return replace(one, image=size(one.image))

    return [replace(one, image=size(one.image), context=tuple(map(shot, one.context))) for one in examples]


def optimisation(tiny_study, **changes):
    options = {"epochs": 2, "images_per_step": 3, "learning_rate": 1e-4, "validations": 2, "tokens_per_pass": 400}
    return tiny_study(training=options | changes)
