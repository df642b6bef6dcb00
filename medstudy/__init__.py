"""medstudy: at which image resolution should a biomedical multimodal model be trained, and at which run?"""

__version__ = "0.1.0"
