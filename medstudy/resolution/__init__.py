"""The subject of the study: size arithmetic, resolution policies and controls, and resizing."""
