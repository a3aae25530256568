"""Rows that no map makes: a task scores them itself, from its own test data.

`real_images` is what a perfect method would reach, with the noise of a finite test set; `reconstruction` is what the
task's decoder lets any method reach; `exact_plan` is what the exact entropic plan itself scores by as many draws as
everyone is given.
"""

from __future__ import annotations

from otbench.registration import register_task_row


@register_task_row("real_images", reference="none: test data in place of mapped points")
class RealImages:
    """Real test images: accuracy of the classifier itself, distances of training images to test images."""


@register_task_row("reconstruction", reference="none: test data, encoded and decoded")
class Reconstruction:
    """Test images through the task's VAE: bounds every method that moves its codes."""


@register_task_row("exact_plan", reference="none: draws from the exact entropic plan")
class ExactPlan:
    """Draws from the task's exact plan: what is left is the noise of a finite number of draws."""
