"""Labels straight from low-resolution class values, where only `argmax` reads the upsampled ones. Bit-exact.

The classes then never exist at full resolution: models.operators.upsample_argmax.
"""

from models.operators.argmax import Argmax
from models.operators.restore_probability import RestoreProbability
from models.operators.upsample import Upsample
from planner.graph import Uses, Work
from planner.rules.rule import Rule, everywhere


def argmax_upsampled(work: Work, uses: Uses) -> Work | None:
    """argmax(upsample(x, stacked)) is restore_probability(x, stacked). None if others read the upsampled x.

    Beyond the map one class has the value 0 when upsampled, and is background when restored: the same unless
    the threshold is below 0.
    """
    if not isinstance(work.operator, Argmax) or work.operator.threshold < 0:
        return None
    (inner,) = work.inputs
    if isinstance(inner, Work) and isinstance(inner.operator, Upsample) and uses.get(inner.id) == 1:
        restored = RestoreProbability(threshold=work.operator.threshold)
        return Work(restored, inner.inputs, f"{inner.step}+{work.step}")
    return None


ARGMAX_UPSAMPLED = Rule("argmax_upsampled", everywhere(argmax_upsampled))
