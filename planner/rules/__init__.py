"""Rewrite rules: one rule, one file, one promise. planner/rewrite.py lists and drives them."""
