"""All rules on one record."""

from rlhf.doctor import of_computation, of_fits, of_policies, of_sampling, of_settings, of_signs
from rlhf.doctor.finding import Finding, History
from rlhf.report.folder import RunFolder

RULES = (
    *of_signs.RULES,
    *of_computation.RULES,
    *of_sampling.RULES,
    *of_settings.RULES,
    *of_policies.RULES,
    *of_fits.RULES,
)


def examine(run: RunFolder) -> list[Finding]:
    """What the rules find in the record of a run, errors first."""
    history = History.of(run)
    return sorted((finding for rule in RULES for finding in rule(history)), key=lambda finding: finding.severity.value)
