-- One of a million URLs, the k-th as often as 1/k; the same ones in each run.
math.randomseed(1)
request = function()
    return wrk.format("GET", "/zipf/" .. math.floor(1000000 ^ math.random()))
end
