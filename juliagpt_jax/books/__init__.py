"""The text pipeline: files of any kind -> clean passages with scores, without duplicates, split. Knows no tokens."""
