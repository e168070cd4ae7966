"""Credit rules: how a learning signal becomes a parameter gradient. One rule a file."""

from ._base import CreditRule, Trigger
from .attention import FullAttention, ScreenedAttention
from .bptt import BPTT, whole_episodes
from .immediate import Immediate
from .memoryless import Memoryless
from .sab import SAB
from .tbptt import TBPTT

CREDIT_RULES: dict[str, type[CreditRule]] = {
    rule.name: rule for rule in (SAB, TBPTT, BPTT, Immediate, FullAttention, ScreenedAttention)
}

__all__ = [
    "BPTT",
    "CREDIT_RULES",
    "SAB",
    "TBPTT",
    "CreditRule",
    "FullAttention",
    "Immediate",
    "Memoryless",
    "ScreenedAttention",
    "Trigger",
    "whole_episodes",
]
