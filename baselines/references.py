"""Rows that no map makes: a task scores them itself, from its own test data.

`real_images` is what a perfect method would reach, with the noise of a finite test set; `reconstruction` is what the
task's decoder lets any method reach.
"""

from __future__ import annotations

from otbench.registration import register_task_row


@register_task_row("real_images", reference="none: test data in place of mapped points")
class RealImages:
    """Real test images: accuracy of the classifier itself, distances of training images to test images."""


@register_task_row("reconstruction", reference="none: test data, encoded and decoded")
class Reconstruction:
    """Test images through the task's VAE: bounds every method that moves its codes."""
