-- Each URL once: the path of the command line with a number behind it.
local base, count = os.time(), 0
request = function()
    count = count + 1
    return wrk.format("GET", wrk.path .. base .. "-" .. count)
end
