# As examples/c/train.c, with .Call and glue.c. usage: Rscript train.R <glue.so> <checkpoint>
arguments <- commandArgs(trailingOnly = TRUE)
dyn.load(arguments[1])
checkpoint <- arguments[2]

n <- 64
num_steps <- 50
weight <- 0L
bias <- 1L
weight_grad <- 2L
bias_grad <- 3L

decays <- function(name) name != "bias"

new_optimizer <- function() {
  optimizer <- .Call("new_optimizer", 0.05, decays)
  .Call("add", optimizer, "weight", weight, weight_grad)
  .Call("add", optimizer, "bias", bias, bias_grad)
  optimizer
}

train <- function(optimizer) {
  i <- seq_len(n) - 1
  for (step in seq_len(num_steps)) {
    .Call("write", weight_grad, .Call("read", weight) - i / 16)
    .Call("write", bias_grad, .Call("read", bias) + i / 16)
    .Call("step", optimizer)
  }
}

adler32 <- function(bytes) {
  a <- 1
  b <- 0
  for (byte in as.integer(bytes)) {
    a <- (a + byte) %% 65521
    b <- (b + a) %% 65521
  }
  sprintf("%04X%04X", b, a)
}

optimizer <- new_optimizer()
train(optimizer)
invisible(.Call("save", optimizer, checkpoint))
invisible(.Call("destroy", optimizer))

optimizer <- new_optimizer()
invisible(.Call("load", optimizer, checkpoint))
train(optimizer)
invisible(.Call("destroy", optimizer))

cat(adler32(c(.Call("bytes", weight), .Call("bytes", bias))), "\n", sep = "")
