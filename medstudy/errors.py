"""Every error that medstudy raises on purpose. A message states the rule, what arrived, and what to do.

MedstudyError
├── ParamsError       a parameter is unknown, of the wrong type or out of range
├── DataError         a data set, split, row or answer is missing or malformed
│   └── ImageError    an image cannot be read, or cannot be turned into RGB without guessing
├── ResolutionError   a policy is impossible, or changed nothing where it should have
├── ModelError        a checkpoint, family or processor does not do what the study needs
└── RunError          a run's folder, record or upstream result is missing, incomplete or changed
    └── RunBusy     another process is making the run now
"""


class MedstudyError(Exception):
    """Base of all errors of this package; the command line prints them without a traceback."""


class ParamsError(MedstudyError):
    """A parameter is unknown, of the wrong type or out of range."""


class DataError(MedstudyError):
    """A data set, split, row or answer is missing or malformed."""


class ImageError(DataError):
    """An image cannot be read, or cannot be turned into RGB without guessing."""


class ResolutionError(MedstudyError):
    """A resolution policy is impossible, or changed nothing where it should have."""


class ModelError(MedstudyError):
    """A checkpoint, family or processor does not do what the study needs."""


class RunError(MedstudyError):
    """A run's folder, record or upstream result is missing, incomplete or changed."""


class RunBusy(RunError):
    """Another process is making the run now; try again later."""
