"""The models of django-computedfields, on the tables of the benchmarks; an app where that library is installed."""
