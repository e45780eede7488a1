"""Sampling: from noise to latents of images and videos, each sample from its own generator."""
