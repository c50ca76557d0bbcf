"""COMPILE: a Plan -> CompiledTriggers, readable SQL."""
