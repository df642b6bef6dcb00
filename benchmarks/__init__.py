"""What medstudy promises about time and size, measured beside what it replaces."""
