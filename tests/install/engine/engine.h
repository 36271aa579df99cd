/* Trains one number towards 2 with libadamw, and returns it. */
float engine_slope(void);
