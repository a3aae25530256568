"""The Python interface, `import otbench`: fit, apply, keep and judge maps, and run the harness."""
