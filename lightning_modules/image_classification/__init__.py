"""Networks and training of image classification, plain and with a teacher."""
