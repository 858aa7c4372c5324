"""The network observer, as the study of simple spread asks it."""

from __future__ import annotations
