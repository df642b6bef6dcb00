import pytest

from medstudy.scoring import score
from tests.support.synthetic import predictions


@pytest.fixture(scope="session")
def scores():
    return score.score(predictions(n_images=60))
