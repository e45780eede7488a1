"""mnemoscope: what does a generative model of medical video remember?"""

__version__ = "0.1.0"
