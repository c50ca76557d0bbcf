"""The models of the benchmarks, as a Django app; they declare no rules: each table brings its own."""
