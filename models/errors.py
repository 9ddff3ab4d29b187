"""The error tree of `models`: what is wrong with a pipeline, and what is wrong with an input.

ModelsError
├── PipelineError      the pipeline's author must act (names file, line and key)
├── InputRefused       the input cannot be computed on; the job is REFUSED with this sentence
└── KernelError        a kernel failed on an input it should have taken; our bug or the network's
"""


class ModelsError(Exception):
    """Root of everything `models` raises on purpose."""


class PipelineError(ModelsError):
    """A pipeline that cannot be read: says where (file, line, key) and what."""

    def __init__(self, message: str, *, file: str = "", line: int = 0, key: str = "") -> None:
        self.message, self.file, self.line, self.key = message, file, line, key
        where = f"{file}:{line}: " if file and line else (f"{file}: " if file else "")
        super().__init__(f"{where}{key + ': ' if key else ''}{message}")


class InputRefused(ModelsError):
    """This input is outside what can be computed; `reason` is a stable word, the message one sentence.

    The message names tags, values and limits, never a patient.
    """

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)

    def __reduce__(self) -> tuple[type["InputRefused"], tuple[str, str]]:
        return (InputRefused, (self.reason, str(self)))


class KernelError(ModelsError):
    """A kernel failed on an input it should have taken."""
