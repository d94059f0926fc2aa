"""The charts' public interface: one model a chart, from which its values files are written."""
