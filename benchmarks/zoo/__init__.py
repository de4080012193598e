"""A zoo of small real trainings, healthy and sick, on which detection is scored."""
