"""Sweeps on other machines: sent there, and the machines checked before."""
