"""Compute at the time of writing: answers of a given form, a calculator, many candidates and a choice among them."""
