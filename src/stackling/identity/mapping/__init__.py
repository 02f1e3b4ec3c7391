"""The mapping language of federation: rules that turn what an identity provider says of somebody into a user here.

Pure: no database, no request. `rules` reads and checks a mapping, `evaluation` applies it to an assertion.
"""

from stackling.identity.mapping.evaluation import (
    DomainRef,
    Evaluated,
    EvaluatedGroup,
    EvaluatedProject,
    EvaluatedUser,
    MappingRefused,
    evaluate,
    try_mapping,
)
from stackling.identity.mapping.rules import VERSIONS, MappingInvalid, Rule, read

__all__ = [
    "VERSIONS",
    "DomainRef",
    "Evaluated",
    "EvaluatedGroup",
    "EvaluatedProject",
    "EvaluatedUser",
    "MappingInvalid",
    "MappingRefused",
    "Rule",
    "evaluate",
    "read",
    "try_mapping",
]
