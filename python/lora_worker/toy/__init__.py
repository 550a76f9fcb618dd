"""A toy SDXL checkpoint and drawn pictures, so that everything can be tried and tested without a download."""
