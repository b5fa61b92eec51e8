"""A run as HTML, Markdown and JSON.

Knows no task: tasks declare cards and plots' data, this draws them.
"""
