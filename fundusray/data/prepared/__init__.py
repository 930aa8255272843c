"""What a prepared set holds beside the image: where its pixels lie in the photograph, and masks."""
