"""How far numbers over few seeds can be trusted: scales, spreads, paired differences, what is shown to be worse."""
