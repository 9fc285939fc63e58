"""Bases and variants in MLflow, and which variant serves."""
