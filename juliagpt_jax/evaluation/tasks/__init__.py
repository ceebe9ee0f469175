"""What models do with tasks: prompts, answers, metrics with intervals, and the errors behind them."""
