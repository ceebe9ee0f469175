"""Tasks, asked of models: prompts, answers, metrics with intervals, and the errors behind them."""
