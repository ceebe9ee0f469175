"""Many runs: suites, the runner, statistics over seeds, tables and plots."""
