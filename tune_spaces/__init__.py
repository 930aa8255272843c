"""Search spaces: functions that ask a trial for settings by their recipe keys."""
