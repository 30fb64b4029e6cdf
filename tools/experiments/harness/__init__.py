"""Mergers side by side: cells of a grid, their results as JSON, tables, plots and pages made of these."""
