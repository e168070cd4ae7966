"""Gymnasium environments with delayed reward, and their wrappers."""
