"""TFLite operators that are made of several core operators, or of a core operator with other attributes."""
