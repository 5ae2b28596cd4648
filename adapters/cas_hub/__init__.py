"""The Hugging Face Hub as a source: `hf://` origins."""
