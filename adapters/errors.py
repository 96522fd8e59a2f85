"""Every error that Palate raises on purpose.

    PreferenceError
    ├── StoreError (OSError)            the folder of comparisons can't be read or written
    │   └── NewerStoreError             a newer Palate wrote it
    ├── ComparisonError (ValueError)    what was to be recorded makes no sense
    ├── ImageError (ValueError)         a picture that can't be used
    ├── NotEnoughAnswersError (ValueError)  nothing to learn from yet
    ├── NotFittedError (ValueError)     used before `fit`
    ├── ShapeError (ValueError)         tensors that don't fit together, or hold NaN
    ├── EncoderError (ValueError)       an encoder can't be loaded or lacks what was asked of it
    │   └── EncoderMismatchError        vectors, tastes or files of two encoders were about to be mixed
    ├── FileFormatError (ValueError)    a file that isn't what it should be
    ├── SteeringError (ValueError)      a prompt can't be moved along a taste, or a model not be loaded
    │   └── OutOfMemoryError            a model or a picture is too large for this machine
    ├── PPDError (ValueError)           a user and a denoiser that don't go together
    ├── FineTuneError (ValueError)      a training that can't start or go on
    └── CancelledError (RuntimeError)   the person stopped what was running

Each message says what can't be done, what was found, what was expected, and one thing to do: the hosts show
`str(error)` to the person, so it is written for them.
"""

from __future__ import annotations

__all__ = [
    "CancelledError",
    "ComparisonError",
    "EncoderError",
    "EncoderMismatchError",
    "FileFormatError",
    "FineTuneError",
    "ImageError",
    "NewerStoreError",
    "NotEnoughAnswersError",
    "NotFittedError",
    "OutOfMemoryError",
    "PPDError",
    "PreferenceError",
    "ShapeError",
    "SteeringError",
    "StoreError",
]


class PreferenceError(Exception):
    """Root of all errors raised on purpose; a face catches this one and shows its text."""


class StoreError(PreferenceError, OSError):
    """The folder that holds the comparisons can't be opened, read or written."""


class NewerStoreError(StoreError):
    """A newer Palate wrote the store; this one would not understand it and leaves it alone."""


class ComparisonError(PreferenceError, ValueError):
    """A comparison that can't be recorded, for example an image against itself."""


class ImageError(PreferenceError, ValueError):
    """A picture that can't be read or used."""


class NotEnoughAnswersError(PreferenceError, ValueError):
    """There is nothing to learn from yet."""


class NotFittedError(PreferenceError, ValueError):
    """An estimator was used before `fit`."""


class ShapeError(PreferenceError, ValueError):
    """Tensors that don't fit together, or that hold NaN or infinity."""


class EncoderError(PreferenceError, ValueError):
    """An encoder can't be loaded, or lacks what was asked of it (for example a text projection)."""


class EncoderMismatchError(EncoderError):
    """Vectors, tastes or files of two different encoders were about to be mixed."""


class FileFormatError(PreferenceError, ValueError):
    """A file that isn't what it should be, or that a newer Palate wrote."""


class SteeringError(PreferenceError, ValueError):
    """A prompt's embedding can't be moved along a taste as asked."""


class OutOfMemoryError(SteeringError):
    """A model, a picture or a way of steering takes more memory than there is."""


class PPDError(PreferenceError, ValueError):
    """A user embedding that a denoiser can't take, or weights of a user attention that don't fit it."""


class FineTuneError(PreferenceError, ValueError):
    """A training that can't start or go on, or a setting of it that makes no sense."""


class CancelledError(PreferenceError, RuntimeError):
    """The person stopped what was running; nothing was kept of it."""
