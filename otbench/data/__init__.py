"""Data from outside: downloads and own copies, checked; arrays and tensors without pickle; what is made from them."""
