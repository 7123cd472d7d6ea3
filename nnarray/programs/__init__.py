"""What is asked for, made runnable: core's functions recorded once and compiled for a target."""
