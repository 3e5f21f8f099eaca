"""All rules on one record."""

from rlhf.doctor import of_fits, of_policies
from rlhf.doctor.finding import Finding, History
from rlhf.report.folder import RunFolder

RULES = (*of_policies.RULES, *of_fits.RULES)


def examine(run: RunFolder) -> list[Finding]:
    """What the rules find in the record of a run, errors first."""
    history = History.of(run)
    return sorted((finding for rule in RULES for finding in rule(history)), key=lambda finding: finding.severity.value)
