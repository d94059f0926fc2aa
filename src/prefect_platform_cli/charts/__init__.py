"""The charts' public interface: one model for each chart, from which its files are generated."""
