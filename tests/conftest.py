"""Settings of every test."""

from hypothesis import settings

# A busy machine makes a fast test slow now and then; how long a test may take is not what these tests are about.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
