"""Examples to learn from in place of a text: questions with answers, conversations, preferences; and their rows."""
