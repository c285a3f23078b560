"""Values ⇄ ids: text, numbers and images, one module each, encode and decode side by side."""
