"""Many runs: ablation suites, statistics, tables, plots."""
