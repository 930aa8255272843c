"""What people read: leaderboards, figures and one self-contained page, from result rows alone."""
