"""The best configuration taken home: exported, trained again, its thresholds chosen, its test score locked."""
