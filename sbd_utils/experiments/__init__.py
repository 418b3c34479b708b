"""Many runs, one table: what `make study` trains and scores."""
