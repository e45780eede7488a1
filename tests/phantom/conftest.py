import pytest

from mnemoscope.core.rng import generator
from mnemoscope.phantom.acquisition import Acquisition, draw_acquisition
from mnemoscope.phantom.anatomy import VIEWS, Patient, draw_patient


@pytest.fixture(params=VIEWS)
def view(request) -> str:
    return request.param


@pytest.fixture
def patient(view) -> Patient:
    return draw_patient(view, generator(7, "patient"))


@pytest.fixture
def acquisition() -> Acquisition:
    return draw_acquisition(generator(7, "acquisition"))
